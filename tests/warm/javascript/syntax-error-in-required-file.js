try {
  require('./bad');
} catch (error) {
  console.log(error.stack);
}
require('./bad');
