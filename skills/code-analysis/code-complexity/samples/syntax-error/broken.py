def ok():
    return 1


total = = 0
