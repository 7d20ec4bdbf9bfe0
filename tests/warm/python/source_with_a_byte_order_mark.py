print("after the mark")
1 / 0
