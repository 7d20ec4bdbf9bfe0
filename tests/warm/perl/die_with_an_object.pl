package Failure;
use overload '""' => sub { "mine\n" };
package main;
die bless {}, 'Failure';
