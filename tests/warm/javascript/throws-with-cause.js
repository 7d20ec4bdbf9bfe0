throw new Error('outer', { cause: Object.assign(new Error('inner'), { code: 'E1' }) });
