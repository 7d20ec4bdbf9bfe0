p Random.seed, Random::DEFAULT rescue p Random.new.seed
