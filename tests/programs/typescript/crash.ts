throw new Error('crash on purpose');
