class Shape:
    @classmethod
    def unit(cls, scale=1):
        class Inner:
            def area(self, /, unit, *rest, exact=True, **more):
                while rest:
                    with open(rest[0]) as file:
                        for line in file:
                            if line:
                                return line
        return Inner

    pick = lambda self, x: 1 if x else 2
