print(hash("text"))
