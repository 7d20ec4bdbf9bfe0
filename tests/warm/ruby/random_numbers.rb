p rand
