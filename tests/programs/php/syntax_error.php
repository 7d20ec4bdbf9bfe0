<?php
echo ("not closed";
