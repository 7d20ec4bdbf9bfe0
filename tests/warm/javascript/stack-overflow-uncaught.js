(function down() {
  down();
})();
