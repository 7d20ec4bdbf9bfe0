console.log(require('./data.json'));
require('./broken.json');
