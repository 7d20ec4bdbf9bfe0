p Gem.loaded_specs.keys.sort, defined?(DidYouMean), defined?(ErrorHighlight), defined?(Bundler), Gem::VERSION
