console.log('marked', __filename);
throw new Error('line two');
