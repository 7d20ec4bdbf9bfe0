console.log(require('thing'), require('thing/package.json').version);
import('thing').then((thing) => console.log(thing.default));
