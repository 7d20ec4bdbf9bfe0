console.log(require('./lib'));
try {
  require('./empty');
} catch (error) {
  console.log(error.code, error.message, error.requireStack);
}
require('.');
