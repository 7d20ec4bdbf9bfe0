console.log(require.main === module, require('./package.json'));
import('./package.json').catch((error) => console.log(error.code));
