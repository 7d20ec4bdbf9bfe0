print({f"key{number}" for number in range(20)})
