for (let i = 0; i < 25; i++) console.log(String(i).repeat(20000));
