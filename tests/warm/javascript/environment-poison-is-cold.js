console.log(process.env.NODE_OPTIONS, new Error('x').stack.split('\n').length);
