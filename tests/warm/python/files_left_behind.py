import os

os.mkdir("made")
with open("made/text.txt", "w") as file:
    file.write("left\n")
with open("left_open.txt", "w") as file_never_closed:
    pass
handle = open("not_closed.txt", "w")
handle.write("flushed at the end")
