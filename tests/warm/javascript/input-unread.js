console.log('not interested');
