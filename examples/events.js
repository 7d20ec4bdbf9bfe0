// Prints a line every tenth of a second, to be watched while it runs.

let left = 3;
const timer = setInterval(() => {
  console.log(left === 0 ? 'done' : left);
  if (left-- === 0) clearInterval(timer);
}, 100);
