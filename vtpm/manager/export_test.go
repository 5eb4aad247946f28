package manager

var OpenState, SealState = openState, sealState
