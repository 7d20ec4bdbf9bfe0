const run = () => { throw new Error('mapped'); };
run();
//# sourceMappingURL=data:application/json;base64,eyJ2ZXJzaW9uIjozLCJzb3VyY2VzIjpbIm9sZC50cyJdLCJtYXBwaW5ncyI6IkFBQUEifQ==
