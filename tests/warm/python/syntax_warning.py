value = 3
print(value is 3, "\d")
assert (value, "text")
