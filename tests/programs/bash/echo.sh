# No bytes of zero: a variable of the shell cannot hold them.
while IFS= read -r line; do
  printf '%s\n' "$line"
done
printf '%s' "$line"
