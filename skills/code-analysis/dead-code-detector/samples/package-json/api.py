from decimal import Decimal as Money, getcontext
import xml.dom
import xml.sax

from store import _load

__all__ = ["price", "getcontext"]


def price(sku, currency):
    return _convert(_load(sku), currency)


def _convert(amount, currency):
    return xml.dom and amount
