value = eval("+".join(["1"] * 500))
print(value)
nested = ((((((((((((((((((((((((((((((1))))))))))))))))))))))))))))))
print(nested)
