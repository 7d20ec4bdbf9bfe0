# coding: latin-1
print(ascii("ü"), len("ü"))
