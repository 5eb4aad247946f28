package manager

var OpenState, SealState = openState, sealState

var Mix = mix
