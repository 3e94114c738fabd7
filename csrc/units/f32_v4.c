#define DNN_DOUBLE 0
#define DNN_LEVEL 2
#define DNN_NAME dnn_f32_v4
#include "../kernels.c"
