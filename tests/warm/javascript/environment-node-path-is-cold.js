console.log(require('thing'));
