console.log(require('net').createServer.length, require('url').URL === URL, require('vm').runInThisContext('1 + 1'));
