#include "cluster_forward.h"

FUSEDRNN_CLUSTER_FORWARD(Lstm)
