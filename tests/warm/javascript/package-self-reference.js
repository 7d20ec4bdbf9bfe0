console.log(require('job/part'), require('#inner'));
