/* A library that knows nothing of Python. */

struct gadget {
    long weight, price;
};

long
gadget_price(volatile struct gadget *gadget)
{
    return gadget->price * gadget->weight;
}
