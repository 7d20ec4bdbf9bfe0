console.log('not closed';
