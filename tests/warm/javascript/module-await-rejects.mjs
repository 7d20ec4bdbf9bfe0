await Promise.reject(new Error('rejected'));
