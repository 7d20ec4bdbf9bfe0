print("not closed";
