print({f"key{number}" for number in range(50)})
print(hash("text"))
