console.log(crypto.randomUUID(), crypto.getRandomValues(new Uint32Array(2)));
