# coding: ascii
print("plain")
