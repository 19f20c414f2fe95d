"""Order intake of a small shop."""

import asyncio
from dataclasses import dataclass

RATES = {"DE": 19, "IE": 23, "GB": 20}


@dataclass
class Order:
    country: str
    items: list
    express: bool = False
    voucher: str = ""

    def net(self):
        return sum(item["price"] * item.get("count", 1) for item in self.items)

    def total(self, rates, today, *, strict=False):
        if not self.items:
            raise ValueError("no items")
        amount = self.net()
        if self.voucher:
            if self.voucher.startswith("PCT") and self.voucher[3:].isdigit():
                amount -= amount * int(self.voucher[3:]) / 100
            elif self.voucher == "WELCOME" and today.month in (1, 2):
                amount -= 5
            elif strict:
                raise ValueError("unknown voucher")
        for item in self.items:
            if item.get("hazardous"):
                if self.express:
                    raise ValueError("hazardous goods cannot be sent by express")
                amount += 12 if self.country != "DE" else 8
        try:
            rate = rates[self.country]
        except KeyError:
            rate = 0
        return max(0, round(amount * (1 + rate / 100), 2)) or 0


def parse_line(line):
    def clean(field):
        return field.strip() if field else None

    fields = [clean(field) for field in line.split(";")]
    return [field for field in fields if field and not field.startswith("#")]


async def take_orders(queue, *handlers, timeout=5, **options):
    while True:
        try:
            order = await asyncio.wait_for(queue.get(), timeout)
        except asyncio.TimeoutError:
            if options.get("stop_when_idle"):
                return
            continue
        async with options["lock"]:
            for handler in handlers:
                if handler.accepts(order) or options.get("force"):
                    await handler(order)
                    break
            else:
                print("nobody takes", order)


if __name__ == "__main__":
    print(Order("DE", [{"price": 10}]).total(RATES, None))
