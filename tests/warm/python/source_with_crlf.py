print("a")
if True:
    print("b")
x = """one
two"""
print(repr(x))
1/0
