console.log(require.resolve('fs'), require.resolve('./main'), require.resolve.paths('x'), require.extensions);
