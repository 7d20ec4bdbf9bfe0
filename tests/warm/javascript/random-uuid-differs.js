console.log(require('crypto').randomUUID(), require('crypto').randomBytes(8).toString('hex'));
