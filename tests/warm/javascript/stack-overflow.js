let depth = 0;
const down = () => {
  depth++;
  down();
};
try {
  down();
} catch (error) {
  console.log(error.name, error.message, depth > 5000, error.stack.split('\n').length);
}
