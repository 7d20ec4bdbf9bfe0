<?php
throw new RuntimeException("crash on purpose");
