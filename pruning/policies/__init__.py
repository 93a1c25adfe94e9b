"""The rules: votes, consensus, probing, DeepConf, DeepPrune, saturation, verified, composed."""
