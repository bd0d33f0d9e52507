/* A library that knows nothing of Python. */

#include <stdlib.h>

/* So large that the C library maps it where addresses need more than 32 bits. */
struct widget {
    long width, height;
    char picture[1 << 20];
};

struct widget *
widget_new(void)
{
    struct widget *widget = malloc(sizeof(*widget));
    widget->width = widget->height = 3;
    return widget;
}

long
widget_area(volatile struct widget *widget)
{
    return widget->width * widget->height;
}
