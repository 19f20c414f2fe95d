def pick(a, b, c):
    if a and b or c:
        return a
    return b if c else [x for x in c if x]
