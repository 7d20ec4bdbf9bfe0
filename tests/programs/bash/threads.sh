# Bash has no threads: four processes that share a pipe.
add() {
  local sum=0 number
  for ((number = $1; number < $1 + 25; number++)); do
    ((sum += number))
  done
  echo "$sum"
}

{
  add 0 &
  add 25 &
  add 50 &
  add 75 &
  wait
} | {
  sum=0
  while read -r part; do
    ((sum += part))
  done
  echo "sum $sum"
}
