#define DNN_DOUBLE 1
#define DNN_LEVEL 0
#define DNN_NAME dnn_f64_baseline
#include "../kernels.c"
