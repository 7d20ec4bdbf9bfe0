function recurse(n) {
  if (n === 0) throw new Error('deep');
  recurse(n - 1);
}
recurse(30);
